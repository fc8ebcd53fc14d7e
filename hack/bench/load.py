"""Loads all transactions of an account with dlt: a resource that yields pages, merged by the record's ID.

Merged, because that is what Busbar does: a record that is read again must not be there twice. Importing the library and
starting Python are not measured.
"""

import shutil
import sys
import time
from urllib.parse import parse_qs, urlsplit

import dlt
import dlt.destinations.impl.postgres.configuration
import requests


def pages(bank, key, size):
    session = requests.Session()
    session.trust_env = False
    number = 1
    while True:
        answer = session.get(
            f"{bank}/v2/accounts/acc-1/transactions",
            params={"paginate": "true", "limit": size, "page": number},
            headers={"mono-sec-key": key},
        )
        answer.raise_for_status()
        body = answer.json()
        yield body["data"]
        if not body["meta"]["next"]:
            return
        number += 1


def destination(kind, url):
    if kind == "sqlite":
        return dlt.destinations.sqlalchemy(credentials=url)
    parts = urlsplit(url)
    # The server listens on a socket, whose folder is in the query. dlt demands a host and a password: neither is used.
    credentials = dlt.destinations.impl.postgres.configuration.PostgresCredentials(
        {
            "drivername": "postgresql",
            "host": "localhost",
            "username": parts.username,
            "password": "unused",
            "database": parts.path.lstrip("/"),
        }
    )
    credentials.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return dlt.destinations.postgres(credentials=credentials)


def main():
    bank, key, size, kind, url, folder = sys.argv[1:]
    folder = f"{folder}-{kind}"
    shutil.rmtree(folder, ignore_errors=True)
    pipeline = dlt.pipeline(
        pipeline_name="bench",
        pipelines_dir=folder,
        destination=destination(kind, url),
        dataset_name="main" if kind == "sqlite" else "bench",
    )
    began = time.monotonic()
    pipeline.run(
        dlt.resource(pages(bank, key, size), name="transactions", primary_key="id", write_disposition="merge")
    )
    seconds = time.monotonic() - began
    with pipeline.sql_client() as client:
        table = client.make_qualified_table_name("transactions")
        rows = client.execute_sql(f"SELECT count(*) FROM {table}")[0][0]
    print(f"rows {rows}")
    print(f"seconds {seconds:.3f}")


main()
