// Opens a page with Uppy in Chromium, does on it what the job in the one argument says, as a person would with a mouse,
// and prints one line of JSON about it: how it ended, and each request with its answer, the steps between them.
//
// The page comes from a port of its own, so to the server it is of another origin.

import { readFileSync } from 'node:fs'
import http from 'node:http'
import { chromium } from 'playwright-core'

const job = JSON.parse(process.argv[2])
const here = (name) => readFileSync(new URL(name, import.meta.url))
const FILES = {
  '/': ['text/html', job.page == null ? here('page.html') : readFileSync(job.page)],
  '/uppy.min.js': ['text/javascript', here('node_modules/uppy/dist/uppy.min.js')],
  '/uppy.min.css': ['text/css', here('node_modules/uppy/dist/uppy.min.css')],
}
const SENT = ['upload-offset', 'upload-length', 'upload-concat', 'tus-resumable']
const GOT = ['upload-offset', 'upload-length', 'location', 'tus-resumable', 'access-control-allow-origin']

const site = http.createServer((request, response) => {
  const [type, content] = FILES[new URL(request.url, 'http://x').pathname] ?? []
  response.writeHead(type ? 200 : 404, { 'content-type': type ?? 'text/plain' }).end(content)
})
await new Promise((listening) => site.listen(job.port ?? 0, '127.0.0.1', listening))

const requests = []
const running = new Set()
const protocols = new Set()
let preflights = 0
let settle = null

function present(names, of) {
  return Object.fromEntries(names.filter((name) => name in of).map((name) => [name, of[name]]))
}

function watch(page) {
  const entries = new Map()
  const isTheirs = (request) => request.url().startsWith(job.endpoint)
  page.on('request', (request) => {
    if (!isTheirs(request)) return
    const url = new URL(request.url()).pathname
    const entry = { method: request.method(), url, sent: present(SENT, request.headers()), status: null, got: {} }
    requests.push(entry)
    entries.set(request, entry)
    running.add(request)
  })
  for (const ending of ['requestfinished', 'requestfailed']) {
    page.on(ending, (request) => {
      if (running.delete(request) && running.size === 0) settle?.()
    })
  }
  page.on('response', (response) => {
    const entry = entries.get(response.request())
    if (entry) Object.assign(entry, { status: response.status(), got: present(GOT, response.headers()) })
  })
}

const browser = await chromium.launchPersistentContext(job.profile, {
  executablePath: job.chromium,
  headless: true,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--ignore-certificate-errors',
  ],
})
const page = browser.pages()[0] ?? (await browser.newPage())
page.setDefaultTimeout(job.patience)
watch(page)
const inspector = await browser.newCDPSession(page)
await inspector.send('Network.enable')
inspector.on('Network.requestWillBeSent', ({ initiator }) => { preflights += initiator.type === 'preflight' ? 1 : 0 })

inspector.on('Network.responseReceived', ({ response }) => {
  if (response.url.startsWith(job.endpoint)) protocols.add(response.protocol)
})

const seen = (what) => page.evaluate(what)
const button = (label) => page.locator(`.uppy-StatusBar button[aria-label="${label}"]`).click()

const steps = {
  open: () => page.goto(`http://127.0.0.1:${site.address().port}/#${encodeURIComponent(JSON.stringify(job))}`),
  reload: () => page.reload(),
  choose: () => page.locator('.uppy-Dashboard-input').first().setInputFiles(job.files),
  upload: () => page.locator('.uppy-StatusBar-actionBtn--upload').click(),
  pause: () => button('Pause'),
  resume: () => button('Resume'),
  cancel: () => button('Cancel'),
  // The uploads have come so far, in per cent.
  at: (percent) => page.waitForFunction((share) => window.seen.share() >= share, percent / 100),
  restored: () => page.waitForFunction(() => window.seen.restored),
  end: () => page.waitForFunction(() => window.seen.ended != null),
  // A page without a library: one input for a file, one button, and an element with the result.
  pick: () => page.locator('input[type=file]').setInputFiles(job.files),
  press: () => page.locator('button').click(),
  result: () => page.waitForFunction(() => document.querySelector('#result').value !== ''),
  // A form ends on the page of the answer.
  answered: () => page.waitForURL(job.endpoint),
  // The same of a page that knows nothing of us.
  complete: () => page.locator('.uppy-StatusBar.is-complete').waitFor(),
}

let failure = null
for (const step of job.steps) {
  const [name, ...words] = step.split(' ')
  requests.push({ step })
  try {
    await steps[name](...words.map(Number))
  } catch (error) {
    failure = `${step}: ${String(error.message).split('\n')[0]}`
    if (job.picture) await page.screenshot({ path: job.picture })
    break
  }
}
const { ended = null, message = null, urls = [] } = await seen(() => ({ ...window.seen, share: null }))
// What a cancelled upload still has to say to the server.
if (running.size > 0) await new Promise((settled) => { settle = settled })
await browser.close()
site.close()
console.log(JSON.stringify({
  outcome: failure == null ? (ended ?? 'success') : 'error',
  message: failure ?? message,
  url: urls[0] ?? null,
  urls,
  preflights,
  protocols: [...protocols],
  requests,
}))
process.exit(0)
