"""The socket face: WebSocket protocol, connections, and the fan-out of events."""
