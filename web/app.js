// The plain page: issues of one project and its live stream. What it shows comes from the HTTP API once and from the
// stream (protocol.md names every message) from then on; text of events is only ever set as text.
//
// The stream's rules: come back after every unexpected close with the last cursor; after `gap` go on from the cursor it
// names, and take no later one until the server has answered; after `resync` read the list anew; drop what came twice.

import { createSignIn } from './sign-in.js'

const $ = (id) => document.getElementById(id)
const levels = ['fatal', 'error', 'warning', 'info', 'debug']
/** The server sends a mark every 15 s at the latest; three missing ones mean a dead connection. */
const deadAfter = 45_000
const pingEvery = 5_000
const longestWait = 30_000
const mostLines = 500
const mostIdsKept = 20_000

const actionsOf = {
  unresolved: ['resolve', 'archive', 'discard', 'assign', 'delete'],
  resolved: ['unresolve', 'archive', 'discard', 'assign', 'delete'],
  archived: ['unresolve', 'resolve', 'discard', 'assign', 'delete'],
  discarded: ['unresolve', 'delete'],
}

const page = {
  /** How somebody gets in. */
  entrance: null,
  token: sessionStorage.getItem('mesher.token') ?? '',
  project: null,
  stream: null,
  /** By issue id: the issue as last heard, and its row. */
  rows: new Map(),
  nextCursor: null,
  /** The number of the load under way, 0 when there is none. */
  loading: 0,
  loads: 0,
  /** The last load failed. */
  stale: false,
  /** Issue messages that came while the list was on its way: they are newer than it. */
  heldBack: [],
  /** Issues without a row that were asked for since they last changed, and how many answers are awaited. */
  asked: new Set(),
  asking: 0,
}

// Elements

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties)
  made.append(...children)
  return made
}

function notice(text) {
  $('notice').textContent = text
  $('notice').hidden = text === ''
}

const ago = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto', style: 'short' })

function relative(iso) {
  const seconds = (Date.parse(iso) - Date.now()) / 1000
  if (seconds > -45) return 'just now'
  if (seconds > -3_600) return ago.format(Math.round(seconds / 60), 'minute')
  if (seconds > -86_400) return ago.format(Math.round(seconds / 3_600), 'hour')
  return ago.format(Math.round(seconds / 86_400), 'day')
}

function timeElement(iso) {
  return element('time', { dateTime: iso, title: new Date(iso).toLocaleString(), textContent: relative(iso) })
}

const plural = (count, word) => `${count.toLocaleString()} ${word}${count === 1 ? '' : 's'}`

/** Resolves with what was typed ('' without a field), or null. */
function ask(text, ok, value) {
  const [dialog, input] = [$('ask'), $('ask-value')]
  $('ask-text').textContent = text
  $('ask-ok').textContent = ok
  input.hidden = value === undefined
  input.value = value ?? ''
  dialog.returnValue = ''
  dialog.showModal()
  if (value === undefined) $('ask-ok').focus()
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'ok' ? input.value.trim() : null), {
      once: true,
    })
  })
}

// HTTP

class HttpError extends Error {
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

async function api(method, path, body) {
  const response = await fetch(new URL(`api/v1/${path}`, document.baseURI), {
    method,
    // Without a token it is the session's cookie, which the browser sends by itself.
    headers: page.token ? { authorization: `Bearer ${page.token}` } : {},
    body: body && JSON.stringify(body),
  })
  const answer = await response.json().catch(() => ({}))
  if (response.ok) return answer
  throw new HttpError(response.status, answer.error?.message ?? `The server answered ${response.status}`)
}

/** Says what went wrong; a token that is refused ends the session. */
function failed(error) {
  if (error.status === 401) {
    return signOut(
      page.token ? 'This token is not one of this server, or was revoked.' : 'Your session has ended: sign in again.',
    )
  }
  notice(error.status ? error.message : 'The server cannot be reached just now.')
}

// Issues

async function loadIssues(more = false) {
  const load = ++page.loads
  page.loading = load
  page.heldBack = []
  page.asked.clear()
  try {
    const query = new URLSearchParams(more ? { cursor: page.nextCursor } : {})
    if ($('status').value) query.set('status', $('status').value)
    const { data, next_cursor } = await api('get', `projects/${page.project.id}/issues?${query}`)
    if (load !== page.loading) return
    if (!more) for (const id of [...page.rows.keys()]) removeRow(id)
    for (const issue of data) showIssue(issue, false)
    page.nextCursor = next_cursor
    $('more').hidden = next_cursor === null
    page.stale = false
    notice('')
  } catch (error) {
    page.stale = true
    if (load === page.loading) failed(error)
  }
  if (load !== page.loading) return
  page.loading = 0
  for (const message of page.heldBack.splice(0)) issueChanged(message)
  showEmpty()
}

function removeRow(id) {
  page.rows.get(id)?.item.remove()
  page.rows.delete(id)
}

/** In place when it has a row, else on top (`fresh`) or at the end. */
function showIssue(issue, fresh) {
  const known = page.rows.get(issue.id)
  const item = known?.item ?? element('li')
  const row = { issue, item, heardUntil: issue.last_seen }
  page.rows.set(issue.id, row)
  drawRow(row)
  if (!known) $('issue-list')[fresh ? 'prepend' : 'append'](item)
  if (fresh) tint(item)
}

function tint(item) {
  item.classList.remove('fresh')
  requestAnimationFrame(() => item.classList.add('fresh'))
}

function drawRow({ issue, item }) {
  const facts = [
    issue.short_id,
    ...(issue.status === $('status').value ? [] : [issue.status]),
    plural(issue.event_count, 'event'),
    ...(issue.user_count > 0 ? [plural(issue.user_count, 'user')] : []),
    ...(issue.assigned_to ? [`assigned to ${issue.assigned_to}`] : []),
  ]
  const detail = element('div', { className: 'detail' }, `${facts.join(' · ')} · `, timeElement(issue.last_seen))
  // The buttons stay while they are right, so that one never goes away under the pointer or loses the focus.
  const buttons = item.dataset.status === issue.status ? item.querySelector('.actions') : actionButtons(issue)
  item.dataset.level = issue.level
  item.dataset.status = issue.status
  item.classList.toggle('leaving', !belongs(issue))
  const title = element('div', { className: 'title', textContent: issue.title, title: issue.title })
  const culprit = element('div', { className: 'detail', textContent: issue.culprit ?? '' })
  if (buttons.parentNode !== item) item.replaceChildren(buttons)
  while (item.firstChild !== buttons) item.firstChild.remove()
  buttons.before(title, ...(issue.culprit ? [culprit] : []), detail)
}

function actionButtons({ id, status }) {
  const buttons = actionsOf[status].map((action) => {
    const button = element('button', { className: 'quiet', textContent: action[0].toUpperCase() + action.slice(1) })
    button.addEventListener('click', () => act(page.rows.get(id), action, button))
    return button
  })
  return element('div', { className: 'actions' }, ...buttons)
}

async function act({ issue }, action, button) {
  const body = {}
  if (action === 'assign') {
    const whom = await ask(`Assign ${issue.short_id} to (empty: nobody)`, 'Assign', issue.assigned_to ?? '')
    if (whom === null) return
    body.assigned_to = whom || null
  }
  const warning = `Delete ${issue.short_id} and all its events? This cannot be undone.`
  if (action === 'delete' && (await ask(warning, 'Delete')) === null) return
  button.disabled = true
  try {
    await api('post', `issues/${issue.id}/${action}`, body)
    notice('')
    // The row changes with the stream's message, as for everybody else; without a stream it is read.
    if (page.stream?.state !== 'live') await loadIssues()
  } catch (error) {
    failed(error)
  } finally {
    button.disabled = false
  }
}

const belongs = (issue) => $('status').value === '' || issue.status === $('status').value

function issueChanged(message) {
  if (page.loading > 0) return page.heldBack.push(message)
  const { issue, issue_id } = message
  page.asked.delete(issue_id)
  const row = page.rows.get(issue_id)
  if (issue === null) removeRow(issue_id)
  else if (row || belongs(issue)) showIssue(issue, row === undefined || row.issue.status !== issue.status)
  if (row && issue && !belongs(issue)) setTimeout(() => leave(issue_id), 2_500)
  showEmpty()
}

/** A row that no longer belongs fades first; what has come back meanwhile, or is being pointed at, stays. */
function leave(id) {
  const row = page.rows.get(id)
  if (!row || belongs(row.issue)) return
  if (row.item.matches(':hover, :focus-within')) return setTimeout(() => leave(id), 1_000)
  removeRow(id)
  showEmpty()
}

/** Counts go on from the list's; exact again at the issue's next message. A filtered stream counts what it shows. */
function eventCame({ issue_id, data }) {
  const row = page.rows.get(issue_id)
  if (!row) return askFor(issue_id)
  if (data.received_at <= row.heardUntil) return
  row.issue.event_count += 1
  if (data.received_at > row.issue.last_seen) row.issue.last_seen = data.received_at
  drawRow(row)
}

/** An issue of a later page has an event, so it belongs on top. Each is asked for once, a few at a time. */
async function askFor(id) {
  if (page.loading > 0 || page.asking >= 4 || page.asked.has(id)) return
  page.asked.add(id)
  page.asking += 1
  try {
    const issue = await api('get', `issues/${id}`)
    // Changed or listed meanwhile: then what came later is shown already.
    if (page.asked.has(id) && !page.rows.has(id) && belongs(issue)) showIssue(issue, true)
    showEmpty()
  } catch {
    page.asked.delete(id)
  } finally {
    page.asking -= 1
  }
}

function showEmpty() {
  $('empty').hidden = page.rows.size > 0 || page.loading > 0
  const status = $('status').value
  $('empty').textContent =
    `No ${status} issues.`.replace('  ', ' ') +
    (status === 'unresolved' || status === '' ? ' Send an event with the DSN that the server printed.' : '')
}

function showCount(count) {
  $('count').textContent = `${count.toLocaleString()} unresolved`
  document.title = `(${count.toLocaleString()}) ${page.project.name} · Mesher`
}

// The tail

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium', hourCycle: 'h23' })

function addLine(kind, what, detail, { at = new Date().toISOString(), level } = {}) {
  const time = element('time', { dateTime: at, title: at, textContent: clock.format(new Date(at)) })
  const line = element(
    'li',
    { className: 'fresh' },
    time,
    element('span', { className: 'kind', textContent: kind }),
    element('span', { className: 'what', textContent: what, title: what }),
  )
  if (detail) line.append(element('span', { className: 'detail', textContent: detail }))
  if (level) line.dataset.level = level
  $('tail').prepend(line)
  $('quiet').hidden = true
  while ($('tail').children.length > mostLines) $('tail').lastChild.remove()
}

function eventLine({ data }) {
  const detail = [data.culprit, data.environment, data.release, data.server_name].filter(Boolean).join(' · ')
  addLine(data.level, data.title, detail, { at: data.received_at, level: data.level })
}

function issueLine({ action, actor, issue, issue_id }) {
  const whom = action === 'assigned' ? ` to ${issue?.assigned_to}` : ''
  addLine('issue', `${issue?.short_id ?? issue_id} ${action}${whom} by ${actor}`, issue?.title)
}

// The stream

function openStream(project) {
  const stream = {
    state: 'connecting',
    /** As the server has them in force. */
    filters: { level: [], environment: [] },
    cursor: null,
    socket: null,
    attempts: 0,
    /** The `ref` of a subscribe that resumes: until its answer, later cursors would skip what is missing. */
    resuming: null,
    catchingUp: false,
    ref: 0,
    pings: new Map(),
    seen: new Set(),
    retry: undefined,
    silence: undefined,
    pinger: undefined,
    ended: false,
  }

  function show(state, lag) {
    stream.state = state
    $('badge').dataset.state = state
    $('badge').textContent = lag === undefined ? state : `${state} · ${lag} ms`
  }

  function connect() {
    clearTimeout(stream.retry)
    const url = new URL(`stream/projects/${project.id}`, document.baseURI)
    url.protocol = url.protocol.replace('http', 'ws')
    for (const [name, values] of Object.entries(stream.filters)) {
      for (const value of values) url.searchParams.append(name, value)
    }
    if (stream.cursor) url.searchParams.set('since', stream.cursor)
    stream.catchingUp = stream.cursor !== null
    stream.resuming = null
    const socket = new WebSocket(url, page.token ? ['mesher.v1', `bearer.${page.token}`] : ['mesher.v1'])
    stream.socket = socket
    socket.onmessage = ({ data }) => stream.socket === socket && heard(JSON.parse(data))
    socket.onclose = ({ code, reason }) => stream.socket === socket && closed(code, reason)
    waitForLife()
  }

  function waitForLife() {
    clearTimeout(stream.silence)
    stream.silence = setTimeout(() => drop('nothing was heard for 45 s'), deadAfter)
  }

  /** For a connection that is dead without knowing it: its own close would come late. */
  function drop(reason) {
    const { socket } = stream
    closed(1006, reason)
    socket.close()
  }

  async function closed(code, reason) {
    stream.socket = null
    clearTimeout(stream.silence)
    clearInterval(stream.pinger)
    stream.pings.clear()
    if (stream.ended) return
    if (code === 4401) return signOut(reason)
    if (stream.state === 'live') addLine('stream', 'connection lost', reason)
    if (code === 4429) stream.attempts = Math.max(stream.attempts, 5)
    show(navigator.onLine && stream.attempts < 4 ? 'reconnecting' : 'offline')
    // Jitter, so that a server that comes back does not meet all its dashboards at once.
    const wait = Math.min(longestWait, 250 * 2 ** stream.attempts) * (0.5 + Math.random())
    stream.attempts += 1
    stream.retry = setTimeout(connect, wait)
    // A browser does not tell a refused upgrade from a dead server; HTTP does.
    if (stream.attempts > 1) await api('get', 'projects').catch((error) => error.status === 401 && failed(error))
  }

  function send(message) {
    if (stream.socket?.readyState === WebSocket.OPEN) stream.socket.send(JSON.stringify(message))
  }

  function ping() {
    stream.pings.set(++stream.ref, performance.now())
    send({ type: 'ping', ref: stream.ref })
  }

  function live() {
    show('live')
    ping()
    clearInterval(stream.pinger)
    stream.pinger = setInterval(ping, pingEvery)
  }

  /** True the first time. */
  function isNew(key) {
    if (stream.seen.has(key)) return false
    stream.seen.add(key)
    // A Set keeps the order of insertion: the oldest goes.
    if (stream.seen.size > mostIdsKept) stream.seen.delete(stream.seen.values().next().value)
    return true
  }

  function subscribe(since) {
    const ref = ++stream.ref
    if (since) {
      stream.resuming = ref
      stream.catchingUp = true
      show('catching up')
    }
    send({ type: 'subscribe', filters: chosenFilters(), ref, ...(since ? { since } : {}) })
  }

  const handlers = {
    subscribed({ filters, unresolved }) {
      stream.attempts = 0
      stream.filters = filters
      showCount(unresolved)
      if (stream.catchingUp) show('catching up')
      else live()
      if (stream.cursor === null || page.stale) loadIssues()
      if (JSON.stringify(filters) !== JSON.stringify(chosenFilters())) subscribe()
    },
    filters_updated({ filters, unresolved, ref }) {
      if (ref === stream.resuming) stream.resuming = null
      stream.filters = filters
      $('filter-problem').textContent = ''
      showCount(unresolved)
    },
    event(message) {
      if (!isNew(message.data.id)) return
      eventLine(message)
      eventCame(message)
    },
    issue(message) {
      // Issue messages have no id of their own. Twice they can only come while something is replayed.
      const { issue_id, action, actor, issue } = message
      const key = [issue_id, action, actor, issue?.status_changed_at, issue?.assigned_to].join(' ')
      const known = !isNew(key) && stream.catchingUp
      if (!known) issueLine(message)
      issueChanged(message)
    },
    issue_count: ({ count }) => showCount(count),
    mark() {
      if (!stream.catchingUp || stream.resuming !== null) return
      // The end of a replay.
      stream.catchingUp = false
      live()
    },
    gap({ reason, cursor }) {
      addLine('gap', 'messages were missed; reading them now', reason)
      // A second gap before the answer to the first: the older cursor covers both.
      if (stream.resuming === null) stream.cursor = cursor
      subscribe(stream.cursor)
    },
    resync({ reason }) {
      addLine('resync', 'the list was read anew', reason)
      loadIssues()
    },
    error({ code, error, ref }) {
      if (ref !== stream.resuming) $('filter-problem').textContent = error
      else drop(`${code}: ${error}`)
    },
    pong({ ref }) {
      const sentAt = stream.pings.get(ref)
      stream.pings.delete(ref)
      if (sentAt === undefined) return
      if (stream.state === 'live') show('live', Math.max(1, Math.round(performance.now() - sentAt)))
    },
  }

  function heard(message) {
    waitForLife()
    handlers[message.type]?.(message)
    if (message.cursor && stream.resuming === null) stream.cursor = message.cursor
  }

  stream.subscribe = () => subscribe()
  stream.reconnectNow = () => stream.socket === null && !stream.ended && connect()
  stream.end = () => {
    stream.ended = true
    clearTimeout(stream.retry)
    clearTimeout(stream.silence)
    clearInterval(stream.pinger)
    stream.socket?.close()
    stream.socket = null
  }
  stream.wentOffline = () => stream.socket && drop('this device is offline')
  show('connecting')
  connect()
  return stream
}

function chosenFilters() {
  const level = levels.filter((name) => $(`level-${name}`).checked)
  const environment = $('environment')
    .value.split(',')
    .map((name) => name.trim())
  return { level: level.length === levels.length ? [] : level, environment: environment.filter(Boolean) }
}

// The session

async function signIn() {
  try {
    const { data } = await api('get', 'projects')
    if (page.token) sessionStorage.setItem('mesher.token', page.token)
    $('sign-in').hidden = true
    $('app').hidden = false
    if (data.length === 0) return notice('There is no project that you may see.')
    $('project').replaceChildren(...data.map(({ id, name }) => element('option', { value: id, textContent: name })))
    const wanted = new URLSearchParams(location.search).get('project')
    openProject(data, data.find(({ id, slug }) => id === wanted || slug === wanted) ?? data[0])
    $('project').onchange = () =>
      openProject(
        data,
        data.find(({ id }) => id === $('project').value),
      )
  } catch (error) {
    if (error.status === 401) return failed(error)
    signOut(error.status ? error.message : 'The server cannot be reached just now: try again.')
  }
}

function openProject(projects, project) {
  page.stream?.end()
  page.project = project
  $('project').value = project.id
  if (projects.length > 1) history.replaceState(null, '', `?project=${encodeURIComponent(project.slug)}`)
  page.asked.clear()
  for (const id of [...page.rows.keys()]) removeRow(id)
  $('tail').replaceChildren()
  $('quiet').hidden = false
  $('count').textContent = ''
  page.stream = openStream(project)
}

function signOut(problem) {
  const hadToken = page.token !== ''
  page.stream?.end()
  page.stream = null
  page.token = ''
  sessionStorage.removeItem('mesher.token')
  document.title = 'Mesher'
  $('app').hidden = true
  $('sign-in').hidden = false
  $('token').value = ''
  $('token-details').open = hadToken
  $('token-problem').textContent = hadToken ? problem : ''
  page.entrance.open(hadToken ? '' : problem)
}

/** With the session that this browser has, if it has one. */
async function enter() {
  try {
    await api('get', 'me')
    signIn()
  } catch (error) {
    signOut(error.status === 401 ? '' : error.message)
  }
}

function start() {
  for (const name of levels) {
    const box = element('input', { type: 'checkbox', id: `level-${name}` })
    $('levels').append(element('label', { htmlFor: box.id }, box, name))
  }
  $('token-form').addEventListener('submit', (event) => {
    event.preventDefault()
    page.token = $('token').value.trim()
    signIn()
  })
  page.entrance = createSignIn({
    get: (path) => api('get', path),
    post: (path, body) => api('post', path, body),
    entered: signIn,
  })
  $('sign-out').addEventListener('click', async () => {
    if (!page.token) await api('post', 'auth/sign-out', {}).catch(failed)
    signOut('')
  })
  $('ask-cancel').addEventListener('click', () => $('ask').close())
  $('status').addEventListener('change', () => loadIssues())
  $('more').addEventListener('click', () => loadIssues(true))
  $('levels').addEventListener('change', () => page.stream?.subscribe())
  $('environment').addEventListener('change', () => page.stream?.subscribe())
  for (const button of document.querySelectorAll('nav button')) {
    button.addEventListener('click', () => {
      $('columns').dataset.view = button.dataset.view
      for (const other of document.querySelectorAll('nav button')) other.ariaPressed = String(other === button)
    })
  }
  addEventListener('online', () => page.stream?.reconnectNow())
  addEventListener('offline', () => page.stream?.wentOffline())
  setInterval(() => {
    for (const time of $('issue-list').querySelectorAll('time')) time.textContent = relative(time.dateTime)
  }, 20_000)
  const invited = /^#\/(join|reset)\//.test(location.hash)
  if (page.token && !invited) signIn()
  else if (invited) signOut('')
  else enter()
}

start()
