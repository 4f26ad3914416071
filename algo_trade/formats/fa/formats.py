"""What Django writes by itself: as in English, in the order of figures that is read in Persian too. Pages show Jalali
dates and Persian digits through `algo.localised`."""

DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i:s"
DATETIME_FORMAT = "Y-m-d H:i:s"
DECIMAL_SEPARATOR = "."
THOUSAND_SEPARATOR = ","
