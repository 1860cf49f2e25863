"""What parcel means and their intervals are worth, on seasons whose LAI is known."""
