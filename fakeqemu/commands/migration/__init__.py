"""QMP commands of QAPI's migration module."""
