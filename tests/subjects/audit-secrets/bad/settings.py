DATABASE = "postgres://app:CI5CFKlFNXfsfY@db.internal/app"
api_secret = "Qc87OMjaGdlpbCB0GNEPCr990Rto"
harmless = "reVy0x70an"
