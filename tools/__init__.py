"""Commands that a person runs around training; their parts are in the folders below."""
