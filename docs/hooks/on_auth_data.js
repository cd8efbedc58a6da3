// An onAuthData hook: log-in by a third party of your own. See docs/signing-in.md.
const AV = require('leanengine')

AV.Cloud.onAuthData(async request => {
  const authData = request.authData
  for (const [provider, data] of Object.entries(authData)) {
    if (provider === 'corp' && data) {
      const headers = {Authorization: `Bearer ${data.access_token}`}
      const answer = await fetch('https://accounts.example.com/userinfo', {headers})
      if (answer.status !== 200) throw new AV.Cloud.Error('this account cannot be verified')
      authData[provider] = {uid: (await answer.json()).id}
    } else if (!['lc_weapp', 'anonymous'].includes(provider)) { // the former is asked by the storage
      throw new AV.Cloud.Error(`no log-in by ${provider}`)
    }
  }
  return authData
})
