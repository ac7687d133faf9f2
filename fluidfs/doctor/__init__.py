"""What this machine can do, and what to change. Each check looks at one thing, returns a Check, and leaves nothing
behind.
"""
