"""The shape of every object stream: columns, their types, meanings and native sources."""
