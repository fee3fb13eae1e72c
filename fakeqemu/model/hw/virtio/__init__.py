"""What virtio devices have of their own: ports, and queues that iothreads work for."""
