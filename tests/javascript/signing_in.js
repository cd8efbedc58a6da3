// The official JavaScript SDK's own calls to sign in, by phone and as a mini program. Prints one JSON object.
const AV = require("leancloud-storage");
const fs = require("fs");

AV.init({ appId: process.env.APP_ID, appKey: process.env.APP_KEY, serverURL: process.env.SERVER_URL });

const code = () => JSON.parse(fs.readFileSync(process.env.SMS_FILE, "utf8")).code;
const failure = (promise) => promise.then(() => 0, (error) => error.code);
const wrong = (right) => String((Number(right) + 1) % 1000000).padStart(6, "0");

// What LeanCloud's adapter for mini programs does: wx.login gives it a code.
const wx = {};
AV.setAdapters({
  getAuthInfo: async ({ platform = "weixin", preferUnionId = false, asMainAccount = false } = {}) => ({
    provider: "lc_weapp", platform: "weixin",
    authData: preferUnionId ? { code: wx.code, platform, main_account: asMainAccount } : { code: wx.code },
  }),
});

async function byPhone(result) {
  await AV.Cloud.requestSmsCode("13900000001");
  result.wrong = await failure(AV.Cloud.verifySmsCode(wrong(code()), "13900000001"));
  await AV.Cloud.verifySmsCode(code(), "13900000001");
  result.used = await failure(AV.Cloud.verifySmsCode(code(), "13900000001"));
  await AV.Cloud.requestSmsCode({ mobilePhoneNumber: "+8613900000002", name: "shop", op: "pay", ttl: 5 });
  const user = await AV.User.signUpOrlogInWithMobilePhone("13900000002", code());
  result.verified = user.get("mobilePhoneVerified");
  await AV.User.logOut();
  await AV.Cloud.requestSmsCode("13900000002");
  result.same = (await AV.User.signUpOrlogInWithMobilePhone("13900000002", code())).id === user.id;
  await AV.User.logOut();
  result.unknown = await failure(AV.User.requestLoginSmsCode("13900000009"));
  await AV.User.requestLoginSmsCode("13900000002");
  result.logged_in = (await AV.User.logInWithMobilePhoneSmsCode("13900000002", code())).id === user.id;
}

async function ofUser(result) {
  const user = await new AV.User().setUsername("js").setPassword("old").setMobilePhoneNumber("139 0000 0003").signUp();
  result.unverified = await failure(AV.User.requestLoginSmsCode("13900000003"));
  await AV.User.requestMobilePhoneVerify("13900000003");
  await AV.User.verifyMobilePhone(code());
  result.now_verified = (await user.fetch()).get("mobilePhoneVerified");
  await AV.User.requestChangePhoneNumber("+8613900000004");
  await AV.User.changePhoneNumber("+8613900000004", code());
  result.changed = (await user.fetch()).get("mobilePhoneNumber");
  await AV.User.logOut();
  await AV.User.requestPasswordResetBySmsCode("13900000004");
  result.guessed = await failure(AV.User.resetPasswordBySmsCode(wrong(code()), "new"));
  await AV.User.resetPasswordBySmsCode(code(), "new");
  result.reset = (await AV.User.logInWithMobilePhone("13900000004", "new")).id === user.id;
  await AV.User.logOut();
}

async function byWeapp(result) {
  wx.code = "good";
  const user = await AV.User.loginWithMiniApp();
  result.weapp = user.get("authData").lc_weapp.openid;
  await AV.User.logOut();
  result.weapp_again = (await AV.User.loginWithMiniApp()).id === user.id;
  await AV.User.logOut();
  wx.code = "made up";
  result.weapp_wrong = await failure(AV.User.loginWithMiniApp());
  wx.code = "union";
  const main = await AV.User.loginWithWeapp({ preferUnionId: true });
  result.union = main.get("authData")._weixin_unionid.uid;
  await AV.User.logOut();
  const data = { openid: "o-weixin", access_token: "good", expires_in: 7200 };
  const other = await AV.User.loginWithAuthDataAndUnionId(data, "weixin", "u1", { unionIdPlatform: "weixin", asMainAccount: false });
  result.one_vendor = other.id === main.id;
  await AV.User.logOut();
  const named = await AV.User.logIn("js", "new");
  await named.associateWithAuthData({ openid: "o-weixin2", access_token: "plain" }, "weixin");
  result.linked = Object.keys(named.get("authData"));
  await named.dissociateAuthData("weixin");
  result.unlinked = await failure(AV.User.loginWithAuthData({ openid: "o-weixin2", access_token: "plain" }, "weixin", { failOnNotExist: true }));
}

async function main() {
  const result = {};
  for (const part of [byPhone, ofUser, byWeapp]) await part(result);
  return result;
}

main().then((result) => console.log(JSON.stringify(result)), (error) => { console.error(error); process.exit(1); });
