"""The STAC API and our routes: requests in, answers out."""
