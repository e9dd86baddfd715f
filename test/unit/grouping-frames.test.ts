import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseEvent } from '../../server/ingest/event.ts'

type Json = Record<string, unknown>

function componentsOf(event: Json): unknown {
  const { components } = parseEvent(Buffer.from(JSON.stringify(event)), { received_at: 0 })
  return JSON.parse(components[0]!)
}

/** What a stack of these frames counts as, without the type and the value of its exception. */
function stackOf(platform: string, frames: (Json | null)[]): unknown {
  const [[, , stack]] = componentsOf({
    platform,
    exception: { values: [{ type: 'E', value: 'v', stacktrace: { frames } }] },
  }) as [[string, string, unknown]]
  return stack
}

test('A function has one name on each platform, however it was written', () => {
  const names: [platform: string, written: string, name: string][] = [
    ['node', 'async Foo.bar', 'bar'],
    ['node', 'new Basket', 'Basket'],
    ['node', 'Object.t [as total]', 't'],
    ['node', 'Object.<anonymous>', ''],
    ['node', '?', ''],
    ['node', 'checkout/<', ''],
    ['node', 'setTimeout handler*tick', 'tick'],
    ['node', 'Foo.#secret', '#secret'],
    ['python', '<lambda>', '<lambda>'],
    ['python', 'async Foo.bar', 'async Foo.bar'],
    ['ruby', 'block (2 levels) in checkout', 'block'],
    ['ruby', '_app_views_users_show_html_erb__3385849834_20', '_app_views_users_show_html_erb'],
    ['ruby', '_app_views_users_show_html_erb___385849834_7', '_app_views_users_show_html_erb'],
    ['php', 'class@anonymous/srv/releases/1/a.php:12$0::handle', 'class@anonymous::handle'],
    ['php', 'App\\Job@anonymous/srv/a.php:12$3f', 'App\\Job@anonymous'],
    ['php', 'App\\Pay::{closure:App\\Pay::run():12}', 'App\\Pay::{closure}'],
    ['php', 'App\\Pay::{closure}', 'App\\Pay::{closure}'],
    ['java', 'lambda$checkout$0', ''],
    ['java', 'fn$HibernateProxy$oqWz4Q3Z', 'fn$HibernateProxy'],
    ['csharp', 'Main', 'Main'],
    ['native', 'void foo::bar<int>(char const*)', 'foo::bar'],
    ['native', 'std::vector<std::pair<int, long>>::push_back(int&&) const', 'std::vector::push_back'],
    ['native', '(anonymous namespace)::crash(int) [clone .isra.0]', '(anonymous namespace)::crash'],
    ['native', 'foo::operator()(int) const', 'foo::operator()'],
    ['native', 'foo::operator<<(int)', 'foo::operator<<'],
    ['native', 'foo(int)::bar(long)', 'foo::bar'],
    ['native', '-[Basket total:with:]', '-[Basket total:with:]'],
    ['native', 'closure #1 (Swift.Int) -> () in Basket.total()', 'closure #1 (Swift.Int) -> () in Basket.total'],
    ['native', 'Basket.total(_:with:) -> Swift.Int', 'Basket.total'],
    ['native', 'core::ops::function::FnOnce::call_once::h0123456789abcdef', 'core::ops::function::FnOnce::call_once'],
    [
      'native',
      '<alloc::boxed::Box<F> as core::ops::FnOnce<A>>::call',
      '<alloc::boxed::Box<F> as core::ops::FnOnce<A>>::call',
    ],
    ['native', '<redacted>', ''],
    ['cocoa', '<unknown>', ''],
    ['go', '(*Server).handle.func1', '(*Server).handle.func1'],
  ]
  for (const [platform, written, name] of names) {
    assert.deepEqual(stackOf(platform, [{ module: 'm', function: written }]), [['m', name]], written)
  }
  assert.deepEqual(stackOf('csharp', [{ module: 'm', function: 'Cut', raw_function: 'Raw(int)' }]), [['m', 'Raw(int)']])
})

test('A frame says what its platform is; without any its file does', () => {
  assert.deepEqual(stackOf('java', [{ module: 'm', function: 'a.b', platform: 'javascript' }]), [['m', 'b']])
  assert.deepEqual(stackOf('other', [{ filename: 'a.ts', function: 'async b' }]), [['a.ts', 'b']])
  assert.deepEqual(stackOf('other', [{ filename: 'a.txt', function: 'async b' }]), [['a.txt', 'async b']])
})

test('What is generated or built into the name of a class or a file does not count', () => {
  const places: [platform: string, frame: Json, place: string][] = [
    ['java', { module: 'sun.reflect.GeneratedMethodAccessor12' }, 'sun.reflect.GeneratedMethodAccessor'],
    [
      'java',
      { module: 'jdk.internal.reflect.GeneratedConstructorAccessor7' },
      'jdk.internal.reflect.GeneratedConstructorAccessor',
    ],
    ['java', { module: 'com.acme.Shop$$Lambda$14/0x0000000800c8f440' }, 'com.acme.Shop$$Lambda'],
    ['java', { module: 'com.acme.Shop$$Lambda/0x0000000800c8f440' }, 'com.acme.Shop$$Lambda'],
    ['java', { module: 'com.acme.Shop$$EnhancerBySpringCGLIB$$1ebd0a' }, 'com.acme.Shop$$EnhancerBySpringCGLIB'],
    ['java', { module: 'com.acme.Shop$$FastClassByGuice$$ab12cd' }, 'com.acme.Shop$$FastClassByGuice'],
    ['java', { module: 'com.acme.Shop$HibernateProxy$oqWz4Q3Z' }, 'com.acme.Shop$HibernateProxy'],
    ['java', { module: 'com.acme.Shop_$$_javassist_seam_12' }, 'com.acme.Shop$$_javassist'],
    ['java', { module: 'com.acme.Shop_$$_jvst7d2_1f' }, 'com.acme.Shop$$_javassist'],
    ['java', { module: 'shop.core$handler$fn__12345' }, 'shop.core$handler$fn'],
    ['java', { module: 'user$eval1234$fn__99' }, 'user$eval$fn'],
    ['java', { module: 'com.acme.Shop$1' }, 'com.acme.Shop$1'],
    ['node', { filename: '/srv/dist/chunk-4f2a9c1b.mjs' }, 'chunk-<hash>.mjs'],
    ['node', { filename: '/srv/dist/index-D_f8aZ0-.js' }, 'index-<hash>.js'],
    ['node', { filename: '/srv/dist/chunk-ABCD2345.js' }, 'chunk-<hash>.js'],
    ['node', { filename: '/srv/dist/main.2fd4e1c67a2d28fced84.chunk.js' }, 'main.<hash>.chunk.js'],
    ['node', { module: 'dist:main-4f2a9c1b' }, 'dist:main-<hash>'],
    ['node', { filename: '/srv/oauth2-client.js' }, 'oauth2-client.js'],
    ['node', { filename: 'C:\\srv\\Pay.js?v=3#x' }, 'pay.js'],
    ['python', { filename: '/srv/4f2a9c1b_add_users.py' }, '<hash>_add_users.py'],
    ['php', { filename: '/srv/releases/20260101/Pay.php' }, 'pay.php'],
    ['javascript', { filename: 'https://shop.example.com/users/77' }, ''],
    ['javascript', { filename: 'https://shop.example.com/app.js?v=12' }, 'app.js'],
  ]
  for (const [platform, frame, place] of places) {
    assert.deepEqual(stackOf(platform, [{ function: 'work', ...frame }]), [[place, 'work']], place)
  }
})

test('Frames of libraries are never in the app, whatever the SDK says', () => {
  const paths = [
    '/srv/node_modules/x/index.js',
    'C:\\srv\\node_modules\\x\\index.js',
    'node:internal/process/task_queues',
    '/venv/site-packages/flask/app.py',
    '/usr/lib/python3/dist-packages/x.py',
    '/usr/local/lib/python3.11/json/decoder.py',
    '/usr/lib/ruby/gems/3.3.0/gems/rack/x.rb',
    '/srv/go/pkg/mod/github.com/x/y.go',
    '/rustc/0123abc/library/core/src/panicking.rs',
    'chrome-extension://abc/content.js',
    'safari-web-extension://abc/content.js',
    'moz-extension://abc/content.js',
  ]
  const own = { filename: '/srv/app/a.c', function: 'own', in_app: true }
  for (const path of paths) {
    for (const frame of [{ filename: path }, { filename: 'x', abs_path: path }]) {
      assert.deepEqual(stackOf('other', [own, { ...frame, function: 'lib', in_app: true }]), [['a.c', 'own']], path)
    }
  }
  assert.deepEqual(stackOf('other', [own, { filename: 'b.c', function: 'lib', in_app: false }]), [['a.c', 'own']])
})

test('Frames that name nothing, and frames of an engine, are left out', () => {
  const own = { filename: '/srv/a.js', function: 'own' }
  for (const frame of [
    null,
    {},
    { function: '?' },
    { filename: '[native code]', function: 'forEach' },
    { filename: '<anonymous>', function: 'Array.map' },
    { filename: '/srv/b.js', function: 'eval' },
  ]) {
    assert.deepEqual(stackOf('node', [own, frame]), [['a.js', 'own']])
  }
})

test('Of a deep stack the fifty frames nearest to the crash count', () => {
  const deep = Array.from({ length: 400 }, (_, n) => ({ module: 'm', function: `f${n}` }))
  const stack = stackOf('python', deep) as [string, string][]
  assert.equal(stack.length, 50)
  assert.deepEqual(
    [stack[0], stack[49]],
    [
      ['m', 'f350'],
      ['m', 'f399'],
    ],
  )
  // Of the middle of a stack nothing is read, but its beginning may be all that is in the app.
  const deepest = deep.map((one, n) => ({ ...one, in_app: n < 10 }))
  assert.equal((stackOf('python', deepest) as unknown[]).length, 10)
})

test('The line of the crash frame counts where SDKs send source', () => {
  const crash = (more: Json) => [{ module: 'm', function: 'f', ...more }]
  const line = { context_line: '   raise  x\t(1)\n' }
  for (const platform of ['node', 'python', 'ruby', 'php'])
    assert.deepEqual(stackOf(platform, crash(line)), [
      ['m', 'f'],
      ['@', 'raise x (1)'],
    ])
  for (const platform of ['java', 'go', 'native']) assert.deepEqual(stackOf(platform, crash(line)), [['m', 'f']])
  for (const context_line of ['  ', 'x'.repeat(121), 'a {snip} b', null, 5.5, {}])
    assert.deepEqual(
      stackOf('python', crash({ context_line })),
      context_line === 5.5
        ? [
            ['m', 'f'],
            ['@', '5.5'],
          ]
        : [['m', 'f']],
    )
})

test('A bundle without source maps counts by type and value, as far as its frames are minified', () => {
  const url = 'https://shop.example.com/app.js'
  const minified = [
    { filename: url, function: 't', lineno: 30, colno: 5 },
    { filename: url, function: 'checkout', lineno: 1, colno: 20345 },
    { filename: url, lineno: 500, colno: 1 },
  ]
  assert.equal(stackOf('javascript', minified), 'v')
  const bundle = { filename: 'app:///index.android.bundle', function: 'onPress', lineno: 1, colno: 98765 }
  assert.equal(stackOf('javascript', [bundle]), 'v')
  const readable = { filename: url, function: 'checkout', lineno: 300, colno: 12 }
  assert.deepEqual(stackOf('javascript', [...minified, readable]), [['app.js', 'checkout']])
})

test('Exception groups count by what they hold', () => {
  const one = (id: number, type: string, more: Json = {}, mechanism: Json = {}): Json => ({
    type,
    value: type,
    ...more,
    mechanism: { exception_id: id, ...(id > 0 && { parent_id: 0 }), ...mechanism },
  })
  const group = { is_exception_group: true }
  const typesOf = (values: Json[]) => {
    const event = parseEvent(Buffer.from(JSON.stringify({ platform: 'python', exception: { values } })), {
      received_at: 0,
    })
    return [event.title, (JSON.parse(event.components[0]!) as string[][]).map(([, type]) => type)]
  }
  // The wrapper of one kind of error is dropped, with the error's causes kept.
  assert.deepEqual(
    typesOf([one(2, 'KeyError', {}, { parent_id: 1 }), one(1, 'TypeError'), one(0, 'ExceptionGroup', {}, group)]),
    ['TypeError: TypeError', ['KeyError', 'TypeError']],
  )
  // A group within a group is a wrapper, too.
  assert.deepEqual(
    typesOf([
      one(3, 'TypeError', {}, { parent_id: 1 }),
      one(2, 'TypeError'),
      one(1, 'ExceptionGroup', {}, group),
      one(0, 'ExceptionGroup', {}, group),
    ]),
    ['TypeError: TypeError', ['TypeError']],
  )
  // Several kinds count once each, in an order of their own, and then the group.
  const mixed = [one(3, 'RangeError'), one(2, 'TypeError'), one(1, 'RangeError'), one(0, 'AggregateError', {}, group)]
  const expected = ['AggregateError: AggregateError', ['RangeError', 'TypeError', 'AggregateError']]
  assert.deepEqual(typesOf(mixed), expected)
  assert.deepEqual(typesOf([mixed[1]!, mixed[2]!, mixed[3]!]), expected)
  // A tree that is none counts as the list it is.
  for (const broken of [
    [one(1, 'A', {}, { parent_id: 1 }), one(0, 'B', {}, group)],
    [one(1, 'A', {}, { parent_id: 7 }), one(0, 'B', {}, group)],
    [one(1, 'A', {}, { exception_id: null }), one(0, 'B', {}, group)],
    [one(1, 'A', {}, { exception_id: 0 }), one(0, 'B', {}, group)],
  ]) {
    assert.deepEqual(typesOf(broken), ['B: B', ['A', 'B']])
  }
})

test('A stack of a thread is that of the exception that has none', () => {
  const frames = [{ module: 'm', function: 'f' }]
  const thread = (more: Json) => ({ id: 1, stacktrace: { frames }, ...more })
  const expected = [['exc', 'E', [['m', 'f']]]]
  for (const [exception, threads] of [
    [{ thread_id: 7 }, [thread({}), thread({ id: 7 })]],
    [{ thread_id: '7' }, [thread({ crashed: true }), thread({ id: 7 })]],
    [{}, [{ id: 2 }, thread({ crashed: true })]],
    [{}, [{ id: 2 }, thread({ current: true })]],
    [{}, [thread({})]],
  ]) {
    assert.deepEqual(componentsOf({ exception: [{ type: 'E', value: 'v', ...exception }], threads }), expected)
  }
  assert.deepEqual(componentsOf({ exception: [{ type: 'E' }], stacktrace: { frames } }), expected)
  assert.deepEqual(componentsOf({ exception: [{ type: 'E' }], threads: [thread({}), thread({ id: 2 })] }), [
    ['exc', 'E', ''],
  ])
  assert.deepEqual(componentsOf({ threads: { values: [thread({})] } }), ['stack', [['m', 'f']]])
})

test('A report of a content security policy counts by its directive and what was blocked', () => {
  const reports: [report: Json, blocked: string][] = [
    [{ effective_directive: 'script-src-elem', blocked_uri: 'https://evil.example.com/x.js?y' }, 'evil.example.com'],
    [{ 'effective-directive': 'script-src-elem', 'blocked-uri': 'inline' }, 'inline'],
    [{ violated_directive: "script-src-elem 'self' https:", blocked_uri: 'data:text/x,abc' }, 'data'],
    [{ effective_directive: 'script-src-elem', blocked_uri: 'http://a.b/x', document_uri: 'http://a.b/' }, 'self'],
    [{ effective_directive: 'script-src-elem' }, 'self'],
  ]
  for (const [csp, blocked] of reports) {
    assert.deepEqual(componentsOf({ csp }), ['csp', 'script-src-elem', blocked])
    assert.equal(
      parseEvent(Buffer.from(JSON.stringify({ csp })), { received_at: 0 }).title,
      `Blocked 'script-src-elem' from '${blocked}'`,
    )
  }
  assert.deepEqual(componentsOf({ csp: {} }), ['none', '', ''])
})
