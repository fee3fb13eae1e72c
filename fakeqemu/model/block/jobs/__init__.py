"""Jobs: state table, lifecycle, transactions, and each block job. See job.c and blockjob.c."""
