"""Named and written scenarios: stages of what the guest and the faults do."""
