#!/usr/bin/env node
// Writes a stylesheet under a name that holds its digest, and a manifest that says which.
const { createHash } = require('crypto')
const { mkdirSync, readFileSync, writeFileSync } = require('fs')
const [from, to] = process.argv.slice(2)
const text = readFileSync(from, 'utf8').replace(/\s+/g, ' ')
const name = `app-${createHash('sha256').update(text).digest('hex').slice(0, 8)}.css`
mkdirSync(to, { recursive: true })
writeFileSync(`${to}/${name}`, text)
writeFileSync(`${to}/manifest.json`, JSON.stringify({ 'app.css': name }))
console.log(`${to}/${name}`)
