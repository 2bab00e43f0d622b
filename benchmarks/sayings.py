"""What the mock language model has spoken: answers as a voice agent gives them, and twenty sentences a language."""

# no first sentence has a clause that would be spoken before the sentence is complete
ANSWERS = (
    "How can I help you today? Your order was shipped on Tuesday, and it should arrive within two days. "
    "If it does not, please call us again, and we will send you a new one at once.",
    "您的订单已经发货了。预计两天之内就会送到您的家里，请您保持电话畅通。如果到时候没有收到，请再打电话给我们。",
    "That is a very good question. The warranty lasts two years from the day of purchase, and it covers all parts. "
    "Would you like me to send you the terms, or is there anything else that you would like to know?",
    "请问您还有什么想了解的吗？我们的营业时间是周一至周五上午九点到下午五点半，周末休息。您也可以在网上查询订单。",
)
ENGLISH = (
    "Hello there, how can I help you today?",
    "Your order was shipped on Tuesday, and it should arrive within two days.",
    "The warranty lasts two years from the day of purchase.",
    "I am sorry, I can't find an account with that number.",
    "It costs $3.50, or 2,000 dollars for all of them.",
    "Please hold the line while I look that up for you.",
    "We are open from nine to half past five, Monday to Friday.",
    "Dr. Smith will call you back this afternoon.",
    "Would you like me to send a copy to your new address?",
    "That isn't a problem at all.",
    "First, press the red button; then wait until the light turns green.",
    "It weighs 1.5 kilograms, which is less than the old one.",
    "Is there anything else that you would like to know?",
    "Thirty-three thousand thieves thought that they thrilled the throne.",
    "Certainly!",
    "You can return it within seven days, free of charge, at any of our shops.",
    "The café is next to the station, on the left.",
    "My dog has seven old shoes and nine yellow hats.",
    "There are 12 seats left on the train at 8:45.",
    "Thank you for calling, and goodbye.",
)
CHINESE = (
    "您好，请问有什么可以帮您？",
    "您的订单已于星期二发货，预计两天内送达。",
    "保修期为两年，从购买之日算起。",
    "很抱歉，我没有找到这个号码对应的账户。",
    "这款音箱的价格是399元，现在打八折。",
    "请稍等，我马上为您查询。",
    "我们的营业时间是周一至周五上午九点到下午五点半。",
    "王医生会在今天下午给您回电话。",
    "需要我把副本发到您的邮箱吗？",
    "当然可以，这完全没有问题。",
    "首先按下红色按钮，然后等待指示灯变绿。",
    "请您再说一遍您的姓名和电话。",
    "请问您还有什么想了解的吗？",
    "四是四，十是十，十四是十四，四十是四十。",
    "好的！",
    "商品签收后七天内可以无理由退货，运费由买家承担。",
    "咖啡馆在车站旁边，就在左手边。",
    "明天我们一起去北京大学看书。",
    "請問您的電話號碼是多少？",
    "感谢您的来电，再见。",
)
