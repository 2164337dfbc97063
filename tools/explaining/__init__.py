"""Parts of explain: what is matched with what in an image, as a page, as a figure, and learned words."""
