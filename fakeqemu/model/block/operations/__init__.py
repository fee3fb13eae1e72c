"""Operations on the graph: block jobs' setup, image creation, snapshots, transactions.

See blockdev.c and block/create.c.
"""
