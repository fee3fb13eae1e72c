"""The time model of a transfer: dirty pages, passes, throughput, downtime."""
