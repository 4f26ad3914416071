"""What operators watch: health, metrics, logs, error reports and traces. Reads what the other rooms know."""
