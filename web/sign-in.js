// How somebody gets in: the first account, sign-in, an invitation or a reset whose link was opened (`#/join/…`, `#/reset/…`).
// The session is a cookie that scripts cannot see; nothing of it is kept here.

const $ = (id) => document.getElementById(id)

const modes = {
  setup: {
    intro: 'Welcome. Make the first account: it owns this server.',
    fields: ['name', 'email', 'password'],
    submit: 'Make the account',
    path: 'auth/setup',
    newPassword: true,
  },
  'sign-in': { intro: '', fields: ['email', 'password'], submit: 'Sign in', path: 'auth/sign-in' },
  join: { intro: '', fields: ['name', 'password'], submit: 'Join', path: 'auth/join', newPassword: true },
  rejoin: { intro: '', fields: ['password'], submit: 'Join', path: 'auth/join' },
  reset: {
    intro: 'Choose a new password. Every other session of your account ends.',
    fields: ['password'],
    submit: 'Set the password',
    path: 'auth/reset',
    newPassword: true,
  },
}

const openIdProblems = {
  unauthenticated: 'The sign-in was not completed: begin it anew.',
  forbidden: 'Nobody here knows this account: ask to be invited with its e-mail address.',
  unavailable: 'The sign-in provider does not answer: try again.',
  internal: 'The sign-in failed in the server; its log says why.',
}

/** `post` sends JSON to a path below /api/v1 and rejects with what went wrong; `entered` is called with a session begun. */
export function createSignIn({ get, post, entered }) {
  let mode = 'sign-in'
  let link = ''

  function show(name, intro = modes[name].intro) {
    mode = name
    const { fields, submit, newPassword } = modes[name]
    for (const field of document.querySelectorAll('#person-form .field')) {
      field.hidden = !fields.includes(field.dataset.field)
      field.querySelector('input').required = !field.hidden
    }
    $('person-intro').textContent = intro
    $('person-intro').hidden = intro === ''
    $('person-submit').textContent = submit
    $('person-password').autocomplete = newPassword ? 'new-password' : 'current-password'
    $('person-password').minLength = newPassword ? 10 : 1
    $('person-password-hint').hidden = !newPassword
    $('token-details').hidden = name !== 'sign-in' && name !== 'setup'
    document.querySelector('#person-form .field:not([hidden]) input').focus()
  }

  /** Asks the server what there is to do. */
  async function open(problem = '') {
    $('person-problem').textContent = problem
    const [, code] = /^#\/openid\/(\w+)$/.exec(location.hash) ?? []
    if (code) {
      $('person-problem').textContent = openIdProblems[code] ?? openIdProblems.internal
      history.replaceState(null, '', location.pathname + location.search)
    }
    const [, action, text] = /^#\/(join|reset)\/([\w-]{43})$/.exec(location.hash) ?? []
    try {
      const { needs_setup, needs_setup_token, openid_connect } = await get('auth')
      $('person-openid').hidden = openid_connect === null || needs_setup
      $('person-openid-link').textContent = `Sign in with ${openid_connect}`
      if (action === 'reset') {
        link = text
        return show('reset')
      }
      if (action === 'join') return await openInvitation(text)
      show(needs_setup ? 'setup' : 'sign-in')
      const tokenField = document.querySelector('[data-field="setup_token"]')
      tokenField.hidden = !needs_setup_token
      tokenField.querySelector('input').required = needs_setup_token
    } catch (error) {
      show('sign-in')
      $('person-problem').textContent = error.status ? error.message : 'The server cannot be reached just now.'
    }
  }

  async function openInvitation(text) {
    link = text
    const { email, organization, role, has_account } = await post('auth/invitation', { link })
    const as = { owner: 'an owner', admin: 'an admin', member: 'a member' }[role]
    show(
      has_account ? 'rejoin' : 'join',
      has_account
        ? `Join ${organization} as ${as}: enter the password of ${email}.`
        : `Join ${organization} as ${as}, with a new account for ${email}.`,
    )
  }

  async function submit(event) {
    event.preventDefault()
    const { path } = modes[mode]
    const body = {}
    for (const field of document.querySelectorAll('#person-form .field:not([hidden]) input'))
      body[field.name] = field.value
    if (path === 'auth/join' || path === 'auth/reset') body.link = link
    $('person-problem').textContent = ''
    $('person-submit').disabled = true
    try {
      await post(path, body)
      $('person-form').reset()
      if (link !== '') history.replaceState(null, '', location.pathname + location.search)
      link = ''
      entered()
    } catch (error) {
      $('person-problem').textContent = error.status ? error.message : 'The server cannot be reached just now.'
    } finally {
      $('person-submit').disabled = false
    }
  }

  $('person-form').addEventListener('submit', submit)
  addEventListener('hashchange', () => !$('sign-in').hidden && open())
  return { open }
}
