// The dialog of `Sentry.showReportDialog()`: the SDK puts a script of ours into the page that failed, the script asks the
// person what happened and posts the answer. https://docs.sentry.io/platforms/javascript/user-feedback/#crash-report-modal
// Everything in the query is a stranger's: it becomes text of the page and never markup.

import { AppError } from '../errors.ts'
import { type Dsn, dsnFrom } from './credentials.ts'
import { type Feedback, userReportFrom } from './reports.ts'
import { eventIdFrom } from './values.ts'

export interface ErrorPage {
  dsn: Dsn
  event_id: string
  search: URLSearchParams
}

/** Throws unauthenticated without a DSN, and bad_request without an event. */
export function errorPageFrom(query: string): ErrorPage {
  const search = new URLSearchParams(query)
  const dsn = dsnFrom(search.get('dsn'))
  if (dsn === null) throw new AppError('unauthenticated', 'The query names no DSN: send it as ?dsn=.')
  const event_id = eventIdFrom(search.get('eventId'))
  if (event_id === null) throw new AppError('bad_request', 'The query names no event: send its id as ?eventId=.')
  return { dsn, event_id, search }
}

/** The form that the script posts; throws unprocessable when it says nothing. */
export function reportFromForm(body: Buffer, event_id: string, received_at: number): Feedback {
  const form = new URLSearchParams(body.toString())
  const fields = { name: form.get('name'), email: form.get('email'), comments: form.get('comments') }
  const report = userReportFrom(Buffer.from(JSON.stringify(fields)), { received_at, event_id })
  if (report === null)
    throw new AppError('unprocessable', 'The report says nothing: write what happened into "comments".')
  return report
}

const texts: Record<string, string> = {
  title: 'It looks like we’re having issues.',
  subtitle: 'Our team has been notified.',
  subtitle2: 'If you’d like to help, tell us what happened below.',
  labelName: 'Name',
  labelEmail: 'Email',
  labelComments: 'What happened?',
  labelClose: 'Close',
  labelSubmit: 'Submit',
  errorGeneric: 'An unknown error occurred while submitting your report. Please try again.',
  successMessage: 'Your feedback has been sent. Thank you!',
}

export function errorPageScript({ search }: ErrorPage, query: string): string {
  const text = (name: string) => (search.get(name) ?? '').slice(0, 500)
  const options = {
    query,
    name: text('name'),
    email: text('email'),
    texts: Object.fromEntries(Object.entries(texts).map(([name, standard]) => [name, text(name) || standard])),
  }
  // Valid JavaScript wherever it stands, in a script element too.
  const json = JSON.stringify(options).replace(
    /[<\u2028\u2029]/g,
    (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  return `(${dialog})(${json})`
}

const dialog = `function (options) {
  var script = document.currentScript
  var address = (script ? script.src.split('?')[0] : '/api/embed/error-page/') + '?' + options.query
  function element(name, parent, style, text) {
    var made = document.createElement(name)
    if (style) made.style.cssText = style
    if (text) made.textContent = text
    if (parent) parent.appendChild(made)
    return made
  }
  var texts = options.texts
  var shade = element('div', null, 'position:fixed;inset:0;z-index:2147483647;background:rgba(0,0,0,.6);overflow:auto')
  shade.className = 'sentry-error-embed-wrapper'
  var form = element('form', shade, 'max-width:480px;margin:10vh auto;padding:24px;background:#fff;color:#222;font:15px/1.4 sans-serif;border-radius:6px')
  form.setAttribute('role', 'dialog')
  form.setAttribute('aria-label', texts.title)
  element('h2', form, 'margin:0 0 8px;font-size:20px', texts.title)
  element('p', form, 'margin:0 0 16px', texts.subtitle + ' ' + texts.subtitle2)
  function field(name, label, tag, type, value) {
    var around = element('label', form, 'display:block;margin:0 0 12px', label)
    var input = element(tag, around, 'display:block;width:100%;box-sizing:border-box;padding:6px;font:inherit')
    if (type) input.type = type
    input.name = name
    input.value = value
    input.required = true
    return input
  }
  var name = field('name', texts.labelName, 'input', 'text', options.name)
  var email = field('email', texts.labelEmail, 'input', 'email', options.email)
  var comments = field('comments', texts.labelComments, 'textarea', '', '')
  comments.rows = 5
  var answer = element('p', form, 'margin:0 0 12px')
  answer.setAttribute('role', 'status')
  var submit = element('button', form, 'padding:6px 14px;font:inherit;margin-right:8px', texts.labelSubmit)
  var close = element('button', form, 'padding:6px 14px;font:inherit', texts.labelClose)
  close.type = 'button'
  close.onclick = function () {
    shade.remove()
  }
  form.onsubmit = function (event) {
    event.preventDefault()
    submit.disabled = true
    var body = new URLSearchParams({ name: name.value, email: email.value, comments: comments.value })
    fetch(address, { method: 'POST', body: body }).then(function (response) {
      if (!response.ok) throw new Error(String(response.status))
      answer.textContent = texts.successMessage
    }).catch(function () {
      answer.textContent = texts.errorGeneric
      submit.disabled = false
    })
  }
  document.body.appendChild(shade)
  comments.focus()
}`
