"""Singer target that lays data out in a warehouse the way Segment does."""
