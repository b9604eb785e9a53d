"""Stage `fetch`: the images, from the first source that can be reached."""
