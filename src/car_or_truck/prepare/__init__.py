"""Stage `prepare`: audits the images and decodes them to arrays."""
