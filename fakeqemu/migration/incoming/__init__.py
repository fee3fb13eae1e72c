"""The destination: `-incoming`, channels, loading the stream. See migration/savevm.c."""
