"""What runs the servers: images and compose file for Docker, `docker.local` where there is none."""
