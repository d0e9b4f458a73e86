"""The Jupyter server extension: routes, the object endpoint, and the bus between threads and the event loop."""
