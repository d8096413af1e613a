"""One file = one format of preference data. `preferences.rows.Source` says what a file defines."""
