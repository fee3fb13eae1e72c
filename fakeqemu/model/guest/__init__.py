"""The guest: what it does, its memory writes, its agent."""
