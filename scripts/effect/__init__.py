"""Which members of what a client may give have an effect; used by `find_unread`."""
