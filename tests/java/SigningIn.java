// The official Java SDK's own calls to sign in, by phone and as a mini program. Prints one JSON object.
import cn.leancloud.*;
import cn.leancloud.core.LeanCloud;
import cn.leancloud.sms.*;
import io.reactivex.Observable;
import java.nio.file.*;
import java.util.*;
import java.util.regex.*;

public class SigningIn {
  static final Map<String, Object> result = new LinkedHashMap<>();

  static String code() throws Exception {
    Matcher found = Pattern.compile("\"code\": \"([0-9]{6})\"").matcher(Files.readString(Path.of(System.getenv("SMS_FILE"))));
    found.find();
    return found.group(1);
  }

  static String wrong(String right) {
    return String.format("%06d", (Integer.parseInt(right) + 1) % 1000000);
  }

  static int failure(Observable<?> call) {
    try {
      call.blockingFirst();
      return 0;
    } catch (Throwable error) {
      Throwable cause = error instanceof LCException ? error : error.getCause();
      return cause instanceof LCException ? ((LCException) cause).getCode() : -1;
    }
  }

  static LCSMSOption option() {
    LCSMSOption option = new LCSMSOption();
    option.setTtl(5);
    return option;
  }

  static Map<String, Object> data(Object... pairs) {
    Map<String, Object> data = new HashMap<>();
    for (int i = 0; i < pairs.length; i += 2) data.put((String) pairs[i], pairs[i + 1]);
    return data;
  }

  static Map<?, ?> authData(LCUser user) {
    return (Map<?, ?>) user.get("authData");
  }

  static void byPhone() throws Exception {
    LCSMS.requestSMSCodeInBackground("13900000001", option()).blockingFirst();
    result.put("wrong", failure(LCSMS.verifySMSCodeInBackground(wrong(code()), "13900000001")));
    LCSMS.verifySMSCodeInBackground(code(), "13900000001").blockingFirst();
    result.put("used", failure(LCSMS.verifySMSCodeInBackground(code(), "13900000001")));
    LCSMS.requestSMSCodeInBackground("+8613900000002", option()).blockingFirst();
    LCUser user = LCUser.signUpOrLoginByMobilePhone("13900000002", code());
    result.put("verified", user.get("mobilePhoneVerified"));
    LCUser.logOut();
    LCSMS.requestSMSCodeInBackground("13900000002", option()).blockingFirst();
    result.put("same", LCUser.signUpOrLoginByMobilePhone("13900000002", code()).getObjectId().equals(user.getObjectId()));
    LCUser.logOut();
    result.put("unknown", failure(LCUser.requestLoginSmsCodeInBackground("13900000009")));
    LCUser.requestLoginSmsCodeInBackground("13900000002").blockingFirst();
    result.put("logged_in", LCUser.loginBySMSCode("13900000002", code()).blockingFirst().getObjectId().equals(user.getObjectId()));
    LCUser.logOut();
  }

  static void ofUser() throws Exception {
    LCUser user = new LCUser();
    user.setUsername("java");
    user.setPassword("old");
    user.setMobilePhoneNumber("13900000003");
    user.signUp();
    result.put("unverified", failure(LCUser.requestLoginSmsCodeInBackground("13900000003")));
    LCUser.requestMobilePhoneVerifyInBackground("13900000003").blockingFirst();
    LCUser.verifyMobilePhoneInBackground(code()).blockingFirst();
    user = LCUser.logIn("java", "old").blockingFirst();
    result.put("now_verified", user.get("mobilePhoneVerified"));
    LCUser.requestSMSCodeForUpdatingPhoneNumberInBackground(user, "+8613900000004", option()).blockingFirst();
    LCUser.verifySMSCodeForUpdatingPhoneNumberInBackground(user, code(), "+8613900000004").blockingFirst();
    result.put("changed", LCUser.logIn("java", "old").blockingFirst().getMobilePhoneNumber());
    LCUser.logOut();
    LCUser.requestPasswordResetBySmsCodeInBackground("13900000004").blockingFirst();
    result.put("guessed", failure(LCUser.resetPasswordBySmsCodeInBackground(wrong(code()), "new")));
    LCUser.resetPasswordBySmsCodeInBackground(code(), "new").blockingFirst();
    LCUser again = LCUser.loginByMobilePhoneNumber("13900000004", "new").blockingFirst();
    result.put("reset", again.getObjectId().equals(user.getObjectId()));
    LCUser.logOut();
  }

  static void byWeapp() throws Exception {
    LCUser user = LCUser.loginWithAuthData(data("code", "good"), "lc_weapp").blockingFirst();
    result.put("weapp", ((Map<?, ?>) authData(user).get("lc_weapp")).get("openid"));
    LCUser.logOut();
    LCUser again = LCUser.loginWithAuthData(data("code", "good"), "lc_weapp").blockingFirst();
    result.put("weapp_again", again.getObjectId().equals(user.getObjectId()));
    LCUser.logOut();
    result.put("weapp_wrong", failure(LCUser.loginWithAuthData(data("code", "made up"), "lc_weapp")));
    Map<String, Object> union = data("code", "union", "platform", "weixin", "main_account", true);
    LCUser main = LCUser.loginWithAuthData(union, "lc_weapp").blockingFirst();
    result.put("union", ((Map<?, ?>) authData(main).get("_weixin_unionid")).get("uid"));
    LCUser.logOut();
    Map<String, Object> token = data("openid", "o-weixin", "access_token", "good");
    LCUser other = LCUser.loginWithAuthData(token, "weixin", "u1", "weixin", false).blockingFirst();
    result.put("one_vendor", other.getObjectId().equals(main.getObjectId()));
    LCUser.logOut();
    LCUser named = LCUser.logIn("java", "new").blockingFirst();
    named.associateWithAuthData(data("openid", "o-weixin2", "access_token", "plain"), "weixin").blockingFirst();
    result.put("linked", new ArrayList<>(authData(LCUser.logIn("java", "new").blockingFirst()).keySet())); // a copy: the SDK empties it
    LCUser.currentUser().dissociateWithAuthData("weixin").blockingFirst();
    LCUser stranger = new LCUser();
    result.put("unlinked", failure(stranger.loginWithAuthData(data("openid", "o-weixin2", "access_token", "plain"), "weixin", true)));
  }

  public static void main(String[] arguments) throws Exception {
    LeanCloud.initialize(System.getenv("APP_ID"), System.getenv("APP_KEY"), System.getenv("SERVER_URL"));
    byPhone();
    ofUser();
    byWeapp();
    List<String> members = new ArrayList<>();
    for (Map.Entry<String, Object> one : result.entrySet()) {
      Object value = one.getValue();
      if (value instanceof Collection) value = "[\"" + String.join("\", \"", (Collection<String>) value) + "\"]";
      else if (value instanceof String) value = "\"" + value + "\"";
      members.add("\"" + one.getKey() + "\": " + value);
    }
    System.out.println("{" + String.join(", ", members) + "}");
    System.exit(0);
  }
}
