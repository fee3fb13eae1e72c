"""Human monitor commands and the parser of their lines. See monitor/hmp.c."""
