"""Stage `fetch`: the images, from the first reachable source."""
