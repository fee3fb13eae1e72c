"""What is recorded of machines of one type each, and of devices in them."""
