"""The REST face: routes, problem+json, OpenAPI."""
