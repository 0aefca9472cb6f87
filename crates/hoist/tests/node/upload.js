// Does with tus-js-client what the job in the one argument says, and prints one line of JSON about it: how it ended,
// and each request with its answer.

import { createReadStream, readFileSync } from 'node:fs'
import { Readable } from 'node:stream'

const job = JSON.parse(process.argv[2])
const tus = job.release === 4 ? (await import('tus-js-client-4')).default : await import('tus-js-client-5')
const { FileUrlStorage } = job.release === 4 ? tus : await import('tus-js-client-5/node/FileUrlStorage')

const SENT = [
  'Upload-Complete', 'Upload-Offset', 'Upload-Length', 'Upload-Defer-Length', 'Content-Type',
  'Tus-Resumable', 'Upload-Concat', 'X-HTTP-Method-Override',
]
const GOT = [
  'Upload-Complete', 'Upload-Offset', 'Upload-Length', 'Upload-Limit', 'Upload-Draft-Interop-Version', 'Location',
  'Tus-Resumable', 'Upload-Expires',
]

const requests = []
let joins = job.retries ?? 0
const entries = new Map()

function present(names, of) {
  return Object.fromEntries(names.map((name) => [name, of.getHeader(name)]).filter(([, value]) => value != null))
}

function end(outcome, error) {
  const message = error == null ? null : String(error.message).split('\n')[0]
  const status = error?.originalResponse?.getStatus() ?? null
  console.log(JSON.stringify({ outcome, message, status, url: upload.url, requests }))
  process.exit(0)
}

// The library does not wait for all it still has to do: to end parts, to forget what it stored. And there are ways for it
// to end without a word.
let outcome = 'silence'
process.once('beforeExit', () => end(outcome))

process.on('uncaughtException', (error) => end('crash', error))

// A stream gives what it has in pieces of its own size.
function* pieces(content) {
  for (let at = 0; at < content.length; at += 65536) yield content.subarray(at, at + 65536)
}

const sources = {
  buffer: () => readFileSync(job.file),
  file: () => createReadStream(job.file),
  stream: () => Readable.from(pieces(readFileSync(job.file)), { objectMode: false }),
}

const options = {
  endpoint: job.endpoint,
  protocol: job.protocol,
  headers: job.headers ?? {},
  metadata: { filename: 'content.bin', filetype: 'application/octet-stream' },
  chunkSize: job.chunk ?? Number.POSITIVE_INFINITY,
  uploadDataDuringCreation: job.during ?? false,
  uploadLengthDeferred: job.deferred ?? false,
  retryDelays: Array(job.retries ?? 0).fill(10),
  overridePatchMethod: job.override ?? false,
  parallelUploads: job.parallel ?? 1,
  removeFingerprintOnSuccess: true,
  onBeforeRequest(request) {
    const url = new URL(request.getURL()).pathname
    const entry = { method: request.getMethod(), url, sent: present(SENT, request), status: null, got: {} }
    requests.push(entry)
    entries.set(request, entry)
  },
  onAfterResponse(request, response) {
    Object.assign(entries.get(request), { status: response.getStatus(), got: present(GOT, response) })
  },
  onProgress(bytes) {
    const isCreated = upload.url != null || job.parallel > 1
    if (job.abortAfter == null || bytes < job.abortAfter || !isCreated) return
    job.abortAfter = null
    const aborted = upload.abort(job.terminate ?? false)
    aborted.then(() => { outcome = 'aborted' }, (error) => end('error', error))
  },
  onSuccess: () => { outcome = 'success' },
  onError(error) {
    // The request that joins parts is one the library does not try again. Whoever uses it has to.
    const isOfJoining = job.parallel > 1 && error.originalRequest == null
    if (isOfJoining && joins-- > 0) upload.start()
    else end('error', error)
  },
}
if (job.uploadUrl != null) {
  options.uploadUrl = job.uploadUrl
}
if (job.storage != null) {
  options.urlStorage = new FileUrlStorage(job.storage)
}

const upload = new tus.Upload(sources[job.source](), options)
if (job.resume) {
  const [previous] = await upload.findPreviousUploads()
  if (previous == null) end('error', new Error('nothing is stored of an earlier upload'))
  upload.resumeFromPreviousUpload(previous)
}
upload.start()
