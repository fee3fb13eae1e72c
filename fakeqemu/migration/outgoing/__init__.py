"""The source side: phases of a migration and the channels that it opens."""
