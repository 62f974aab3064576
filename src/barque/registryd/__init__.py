"""A registry of our own: `barque registry serve`. distribution-spec 1.1."""
