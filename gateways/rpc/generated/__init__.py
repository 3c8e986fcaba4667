"""Written by protoc from `gateways/rpc/minutebook.proto` (`python -m gateways.rpc.generate`); never by hand."""
