"""``hpcbridge init``: a first configuration for a site, from what its cluster says of itself."""
