"""Control of time: one machine's clock, a group's clock."""
