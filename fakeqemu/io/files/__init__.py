"""Files of the host: images with their locks, output files, `/dev/fdset`. See util/osdep.c."""
