// Which browser on which system a User-Agent names, as people call them. Only what an error is looked at by: the ten
// browsers and seven systems that are seen. Not a library, because every one that is kept runs hundreds of regular
// expressions, some of which backtrack, over a text that a stranger chose (ua-parser-js is under AGPL besides); these are
// searches for fixed words, and each text is looked at once.

export interface Named {
  name: string
  version: string | null
}

export interface Agent {
  browser: Named | null
  os: Named | null
}

/** In this order: most browsers claim to be others, too. */
const browsers: [mark: string, name: string, mobile?: string][] = [
  ['Edg/', 'Edge'],
  ['EdgA/', 'Edge Mobile'],
  ['EdgiOS/', 'Edge Mobile'],
  ['Edge/', 'Edge'],
  ['OPR/', 'Opera', 'Opera Mobile'],
  ['SamsungBrowser/', 'Samsung Internet'],
  ['YaBrowser/', 'Yandex Browser'],
  ['Vivaldi/', 'Vivaldi'],
  ['Electron/', 'Electron'],
  ['HeadlessChrome/', 'HeadlessChrome'],
  ['CriOS/', 'Chrome Mobile iOS'],
  ['FxiOS/', 'Firefox iOS'],
  ['Firefox/', 'Firefox', 'Firefox Mobile'],
  ['Chrome/', 'Chrome', 'Chrome Mobile'],
  ['Trident/', 'IE'],
  ['MSIE ', 'IE'],
]

const windows = new Map([
  ['10.0', '10'],
  ['6.3', '8.1'],
  ['6.2', '8'],
  ['6.1', '7'],
  ['6.0', 'Vista'],
  ['5.1', 'XP'],
])

export function browserFrom(agent: string): Agent {
  if (agent === '') return { browser: null, os: null }
  return { browser: browserOf(agent), os: osOf(agent) }
}

function browserOf(agent: string): Named | null {
  for (const [mark, name, mobile] of browsers) {
    const at = agent.indexOf(mark)
    if (at === -1) continue
    if (name === 'IE') return { name, version: versionAfter(agent, 'rv:') ?? versionAfter(agent, 'MSIE ') }
    return { name: mobile !== undefined && agent.includes('Mobi') ? mobile : name, version: versionAfter(agent, mark) }
  }
  if (!agent.includes('Safari/')) return null
  return { name: agent.includes('Mobile/') ? 'Mobile Safari' : 'Safari', version: versionAfter(agent, 'Version/') }
}

function osOf(agent: string): Named | null {
  if (agent.includes('Windows Phone')) return { name: 'Windows Phone', version: versionAfter(agent, 'Windows Phone ') }
  if (agent.includes('Windows NT ')) {
    const version = versionAfter(agent, 'Windows NT ')
    return { name: 'Windows', version: windows.get(version ?? '') ?? version }
  }
  if (agent.includes('iPhone') || agent.includes('iPad')) return { name: 'iOS', version: versionAfter(agent, ' OS ') }
  if (agent.includes('Android')) return { name: 'Android', version: versionAfter(agent, 'Android ') }
  if (agent.includes('Mac OS X')) return { name: 'Mac OS X', version: versionAfter(agent, 'Mac OS X ') }
  if (agent.includes('CrOS ')) return { name: 'Chrome OS', version: null }
  return agent.includes('Linux') ? { name: 'Linux', version: null } : null
}

/** The digits after a word, at most three parts: `120.0.6099` of `120.0.6099.71`, `10.15.7` of `10_15_7`. */
function versionAfter(agent: string, mark: string): string | null {
  const at = agent.indexOf(mark)
  if (at === -1) return null
  const version = /^\d{1,8}(?:[._]\d{1,8}){0,2}/.exec(agent.slice(at + mark.length, at + mark.length + 32))
  return version === null ? null : version[0].replaceAll('_', '.')
}
