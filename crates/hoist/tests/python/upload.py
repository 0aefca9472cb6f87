"""Does with tuspy what the job in the one argument says, and prints one line of JSON about it: how it ended, and each
request with its answer."""

import asyncio
import hashlib
import json
import sys
from urllib.parse import urlsplit

import aiohttp
import requests
from tusclient import client
from tusclient.exceptions import TusCommunicationError
from tusclient.storage import filestorage
from tusclient.uploader import AsyncUploader, Uploader

SENT = ["Upload-Offset", "Upload-Length", "Upload-Metadata", "Upload-Checksum", "Tus-Resumable"]
GOT = ["Upload-Offset", "Upload-Length", "Location", "Tus-Resumable", "Upload-Expires"]

job = json.loads(sys.argv[1])
log = []


def present(names, fields):
    folded = {name.lower(): value for name, value in (fields or {}).items()}
    return {name: folded[name.lower()] for name in names if name.lower() in folded}


def asked(method, url, fields):
    path = urlsplit(str(url)).path
    log.append({"method": method.upper(), "url": path, "sent": present(SENT, fields), "status": None, "got": {}})
    return log[-1]


def answered(entry, status, fields):
    entry.update(status=status, got=present(GOT, fields))


# Both libraries below tuspy have one function that all requests go through.
session_request, client_request = requests.Session.request, aiohttp.ClientSession._request


def logged_request(self, method, url, **more):
    entry = asked(method, url, more.get("headers"))
    answer = session_request(self, method, url, **more)
    answered(entry, answer.status_code, answer.headers)
    return answer


async def logged_async_request(self, method, url, **more):
    entry = asked(method, url, more.get("headers"))
    answer = await client_request(self, method, url, **more)
    answered(entry, answer.status, answer.headers)
    return answer


requests.Session.request, aiohttp.ClientSession._request = logged_request, logged_async_request


class Liar(Uploader):
    """Says of all content that it is other content."""

    CHECKSUM_ALGORITHM_PAIR = ("sha1", lambda _: hashlib.sha1(b"something else"))


def uploader():
    kind = {"sync": Uploader, "async": AsyncUploader, "liar": Liar}[job.get("uploader", "sync")]
    options = {
        "client": client.TusClient(job["endpoint"]),
        "chunk_size": job.get("chunk", sys.maxsize),
        "metadata": job.get("metadata", {}),
        "retries": job.get("retries", 0),
        "retry_delay": 0.01,
        "upload_checksum": job.get("checksum", False),
    }
    if "storage" in job:
        options.update(store_url=True, url_storage=filestorage.FileStorage(job["storage"]))
    # Only what comes after the creation is tried again by tuspy, and a retrieval only in the course of an append.
    for attempt in range(job.get("retries", 0) + 1):
        try:
            made = kind(job["file"], **options)
            if not made.url:
                url = made.create_url()
                made.set_url(asyncio.run(url) if kind is AsyncUploader else url)
            return made
        except TusCommunicationError:
            if attempt == job.get("retries", 0):
                raise


def main():
    made, error = None, None
    try:
        made = uploader()
        done = made.upload(job.get("stopAt"))
        if done is not None:
            asyncio.run(done)
    except TusCommunicationError as raised:
        error = raised
    print(json.dumps({
        "outcome": "success" if error is None else "error",
        "message": None if error is None else str(error),
        "status": None if error is None else error.status_code,
        "url": made and made.url,
        "requests": log,
    }))


main()
