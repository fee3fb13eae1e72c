"""The destination side: `-incoming`, its channels and loading the stream."""
