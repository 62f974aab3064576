"""What both sides of the Engine API's socket share: versions, names and framing."""
