"""The only room that knows FUSE: getting a device, and passing the kernel's requests to `fs/`."""
