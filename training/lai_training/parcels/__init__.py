"""LAI of parcels and dates: means, their interval, seasons, the paper's tables 7 to 9."""
