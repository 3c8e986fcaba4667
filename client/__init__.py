"""The typed asyncio client: REST and socket, reconnect, sequence tracking, gap repair. Stands alone."""
