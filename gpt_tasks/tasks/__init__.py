"""The families of tasks. A family is a base class; a task is a small subclass of it."""
