import os

password = os.environ["DB_PASSWORD"]
api_key = "changeme"
token = "${TOKEN}"
URL = "postgres://app:password@localhost/app"
