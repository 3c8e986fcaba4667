"""The record routed to gateways: each receives what somebody listens to there, over one stream from a pusher, else from the log itself."""
